"""Making a failing case smaller while it fails the same way."""
