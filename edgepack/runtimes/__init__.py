"""What each runtime version really computes, and the agent that asks it."""
