"""GRAIN ([GRAIN] 3.2-3.4): the invertible decoder; its prior and fusion join it here."""
