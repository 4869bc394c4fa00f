package main

import (
	"fmt"
	"slices"
)

// report prints the costs of a work, ours first, and the others' ratios to ours.
func report(name string, targets []target, costs [][]float64) {
	ours := costs[0]
	fmt.Printf("\n%s\n", name)
	for i, t := range targets {
		line := fmt.Sprintf("  %-22s %s us", t.name(), spread(costs[i], "%.1f"))
		if i > 0 {
			ratios := make([]float64, len(ours))
			for r := range ours {
				ratios[r] = costs[i][r] / ours[r]
			}
			line += fmt.Sprintf("   %s of ours", spread(ratios, "%.2f"))
		}
		fmt.Println(line)
	}
}

// spread is a median with the range.
func spread(v []float64, format string) string {
	s := slices.Sorted(slices.Values(v))
	median := s[len(s)/2]
	if len(s)%2 == 0 {
		median = (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median, s[0], s[len(s)-1])
}
