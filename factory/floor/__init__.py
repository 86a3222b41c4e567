"""The factory floor: many training jobs under one power budget, on one machine or on many."""
