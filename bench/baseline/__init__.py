"""What a regression gave, kept to compare later ones with it."""
