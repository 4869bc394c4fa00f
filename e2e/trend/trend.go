// Package trend says whether a measured value grows over time.
package trend

import (
	"fmt"
	"math"
)

// Flat is how much a value may grow over the time that is judged, as a share of its mean, before it counts as growth.
const Flat = 0.05

// Line is the line through values at 0, 1, 2 and so on, by least squares.
type Line struct {
	// Growth is by how much the line rises over all values, and Error its standard error.
	Growth, Error float64
	// Mean is that of the values.
	Mean float64
}

// Of fits a line; it needs three values.
func Of(y []float64) Line {
	n := float64(len(y))
	var l Line
	for _, v := range y {
		l.Mean += v / n
	}
	var xx, xy float64
	for i, v := range y {
		x := float64(i) - (n-1)/2
		xx += x * x
		xy += x * (v - l.Mean)
	}
	slope := xy / xx
	var rest float64
	for i, v := range y {
		d := v - l.Mean - slope*(float64(i)-(n-1)/2)
		rest += d * d
	}
	l.Growth, l.Error = slope*n, math.Sqrt(rest/(n-2)/xx)*n
	return l
}

// Grows reports whether the values grow by more than Flat. What two standard errors explain is noise: garbage is
// collected, and idle connections are closed, at any time.
func (l Line) Grows() bool { return l.Growth-2*l.Error > Flat*l.Mean }

// Verdict is "flat" or "grows".
func (l Line) Verdict() string {
	if l.Grows() {
		return "grows"
	}
	return "flat"
}

// String says it all in a line.
func (l Line) String() string {
	return fmt.Sprintf("went by %+.2f (standard error %.2f) at %.1f: %s", l.Growth, l.Error, l.Mean, l.Verdict())
}
