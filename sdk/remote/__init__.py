"""The SDK's verbs computed by a service over HTTP; needs the extra ``remote``."""
