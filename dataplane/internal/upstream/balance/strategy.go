package balance

// Strategy chooses among the targets of a group. It is safe for concurrent use, takes no lock and does not allocate,
// except for the first picks after a target's health has changed.
type Strategy interface {
	// Pick returns the index of a target that the choice allows, or -1.
	Pick(c Choice) int
}

// group is the targets that a strategy chooses among.
type group struct {
	targets []Target
	health  *health
	place   int // among the balancer's tiers
	slow    SlowStart
	begin   uint64 // Settings.Begin
}

// newStrategy returns a strategy of a kind. It goes on where previous is, which may be nil or of another kind.
func newStrategy(set *Settings, in *group, previous Strategy) Strategy {
	switch set.Kind {
	case "weighted_round_robin":
		return newWeighted(in, previous)
	case "least_connections":
		return newLeastConnections(in, previous)
	case "random":
		return newRandom(in)
	case "consistent_hash":
		return newHashed(set, in, previous)
	case "peak_ewma":
		return newPeakEWMA(set, in)
	default:
		return newInTurn(in, previous)
	}
}

// base is what strategies have in common.
type base struct {
	*group
	// spare deals out what a schedule has for targets that may not be picked.
	spare usable
}
