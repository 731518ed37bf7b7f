"""GRAIN ([GRAIN] 3.2-3.4): the invertible decoder, the code predictor and the fusion with a generative prior."""
