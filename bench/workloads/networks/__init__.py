"""Networks of known shape with seeded weights: nobody trained them, and no accuracy is claimed for them."""
