"""Super-resolution: networks that enlarge restored pictures."""
