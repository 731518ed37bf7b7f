"""The service as a deployment of Ray Serve."""
