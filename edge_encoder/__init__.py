"""The encoder of phones, browsers and the SDK: preprocessing, and a network that is exact in integers."""
