package balance

// random chooses by chance, each target by its weight.
type random struct{ base }

func newRandom(in *group) *random {
	r := &random{base{group: in}}
	r.spare.watch(in, false)
	return r
}

// Pick implements Strategy.
func (r *random) Pick(c Choice) int { return r.spare.random(c) }
