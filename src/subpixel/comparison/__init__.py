"""A page that shows what models make of an image or a video, side by side with bicubic and a reference."""
