"""Importers: networks of other frameworks as float Relax modules that the passes take."""
