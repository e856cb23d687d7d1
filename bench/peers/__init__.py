"""Programs of others that compute the same integer products: witnesses, and what to be compared with."""
