"""What no server of this kind can beat: a bare relay, and the store's own rate."""
