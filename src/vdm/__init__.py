"""vdm: variational diffusion models whose likelihood can be trusted.

The floors, from the bottom up: ``gamma`` and ``errors``; ``schedules``, ``draws``, ``parameterisations``, ``bound``,
``networks`` and ``data``; ``process``, ``likelihoods``, ``times`` and ``divergence``; ``denoiser``, ``elbo``,
``consistency`` and ``samplers``; ``models``; ``evaluation``; ``training``; ``cli``. A file imports from lower floors only.
"""
