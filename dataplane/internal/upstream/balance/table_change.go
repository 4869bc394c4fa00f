package balance

// changed returns the table of targets, as [newTable] does, from that of the targets so far: those that go or weigh
// less give their places up, those that come or have another weight take what they hit first. nil: so much changes that
// to make it anew costs no more.
//
// For one of 100 targets that is a tenth of making it anew where it comes, and a quarter where it goes
// (BenchmarkTableChange): who of the others hits its places next is found out by following all their hits.
func (t *table) changed(before, now []Target) *table {
	c := compare(before, now)
	if c == nil {
		return nil
	}
	size := len(t.owner)
	f := newFilling(now, size)
	empty := newPlaces(size)
	for place, owner := range t.owner {
		if i := c.kept[owner]; i >= 0 {
			f.owner[place], f.hit[place] = uint32(i), t.hit[place]
		} else {
			empty.add(uint64(place))
			f.empty++
		}
	}
	if f.empty > 0 {
		f.fill(c.stay, empty)
	}
	if len(c.come) == 0 {
		return f.table
	}
	last := 0.0
	for place, owner := range f.owner {
		h, n := &f.hitters[owner], uint64(f.hit[place])
		f.first[place] = h.at(n, h.chance(n))
		last = max(last, f.first[place])
	}
	for _, i := range c.come {
		f.hits(i, last, nil)
	}
	return f.table
}

// comparison is what differs between two lists of targets.
type comparison struct {
	kept       []int    // by index in the list before: the index now; -1: it has gone or weighs less
	stay, come []uint32 // indices now, of those that are as before and of the others
}

// compare returns nil where targets can't be told apart by their keys, and where so many come that each of them would
// hit as often as it does in a table that is made anew.
func compare(before, now []Target) *comparison {
	c := &comparison{kept: make([]int, len(before))}
	index := make(map[string]int, len(before))
	for i := range before {
		c.kept[i] = -1
		if before[i].Weight > 0 {
			index[before[i].Key] = i
		}
	}
	seen := make(map[string]bool, len(now))
	var stay, come uint64
	for i := range now {
		t := &now[i]
		if t.Weight == 0 {
			continue
		}
		if seen[t.Key] {
			return nil
		}
		seen[t.Key] = true
		was, has := index[t.Key]
		if has && before[was].Weight <= t.Weight {
			c.kept[was] = i
		}
		if has && sameHits(before[was], *t) {
			c.stay, stay = append(c.stay, uint32(i)), stay+uint64(t.Weight)
		} else {
			c.come, come = append(c.come, uint32(i)), come+uint64(t.Weight)
		}
	}
	if stay < 2*come || stay == 0 {
		return nil
	}
	return c
}
