"""Studies of single research questions; nothing else imports them."""
