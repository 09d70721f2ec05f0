"""Constructors of objects from composed configs, with checks of names, arguments and trust."""
