"""What people wear: hair, glasses, hats, clothes, and hands before the face."""
