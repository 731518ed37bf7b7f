"""Batch jobs on Ray Data: folders and object stores full of pictures or payloads."""
