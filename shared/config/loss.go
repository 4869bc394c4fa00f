package config

// GuardedRoutes is from how many routes on losing most of them at once is taken for an accident; of fewer it is losing
// all.
const GuardedRoutes = 10

// LostRoutes returns how many of how many routes are gone by a change from before to after where that are so many that
// nobody may have meant it: more than half of ten or more, or all. Otherwise lost is 0. Whatever brings configuration
// to where it counts asks for permission then.
func LostRoutes(before, after *Config) (lost, of int) {
	was, is := before.Len(Route), after.Len(Route)
	if was >= GuardedRoutes && is*2 < was || was > 0 && is == 0 {
		return was - is, was
	}
	return 0, was
}
