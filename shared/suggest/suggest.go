// Package suggest finds the name that somebody probably meant.
package suggest

// Nearest returns the known name that is most like an unknown one, or "". It looks at 20,000 names at the most.
func Nearest(name string, known func(yield func(string) bool)) string {
	best, bestDistance := "", len(name)/3+1
	scanned := 0
	for k := range known {
		if scanned++; scanned > 20_000 {
			break
		}
		if d := len(k) - len(name); d > bestDistance || -d > bestDistance {
			continue
		}
		if d := editDistance(name, k, bestDistance); d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance is Levenshtein's, or limit+1 when it is above limit.
func editDistance(a, b string, limit int) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev, low := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = min(prev, row[j], row[j+1]) + 1
			}
			prev, row[j+1] = row[j+1], cost
			low = min(low, cost)
		}
		if low > limit {
			return limit + 1
		}
	}
	return row[len(b)]
}
