"""What happens then: worlds that move in time."""
