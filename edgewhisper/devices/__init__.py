"""What brings a bundle to a device: packages for each platform, and profiling over ssh."""
