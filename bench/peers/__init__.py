"""Programs of others that compute the same integer products: to agree with, and to be faster or slower than."""
