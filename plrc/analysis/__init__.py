"""What a network knows of its pictures: maps and scores, tensors in, arrays out."""
