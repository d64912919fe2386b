"""One module for each framework; nothing else imports them."""
