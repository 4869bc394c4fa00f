package main

import (
	"fmt"
	"slices"
	"strings"
)

// figures are what a work came to, for each peer that did it, ours first.
type figures struct {
	unit     string
	decimals int
	// more tells that more is better.
	more  bool
	peers []string
	// ofPeer are by peer and by round.
	ofPeer [][]float64
}

// bar is what a work has to reach: a least ratio to a peer or, without a peer, a bound for our own figure.
type bar struct {
	peer  string
	bound float64
}

func ofBoth(ratio float64) []bar { return []bar{{"nginx", ratio}, {"HAProxy", ratio}} }

// result is a work with its figures.
type result struct {
	work
	figures
}

// ratios say how much better we are than a peer: above 1 is better for us.
func (f figures) ratios(peer int) []float64 {
	ratios := make([]float64, len(f.ofPeer[0]))
	for r, ours := range f.ofPeer[0] {
		ratios[r] = f.ofPeer[peer][r] / ours
		if f.more {
			ratios[r] = 1 / ratios[r]
		}
	}
	return ratios
}

func (f figures) text(peer int) string {
	return strings.TrimSpace(spread(f.ofPeer[peer], f.decimals) + " " + f.unit)
}

// print shows the figures, and the others' ratios to ours.
func (r result) print() {
	fmt.Printf("\n%s\n", r.name)
	for i, p := range r.peers {
		line := fmt.Sprintf("  %-14s %-28s", p, r.text(i))
		if i > 0 {
			line += " ratio " + spread(r.ratios(i), 2)
		}
		fmt.Println(strings.TrimRight(line, " "))
	}
}

// verdict says whether the bars are met by the medians.
func (r result) verdict() (bars, verdict string) {
	if len(r.bars) == 0 {
		return "", ""
	}
	var asked, missed, absent []string
	for _, b := range r.bars {
		of, sign, got := "us", "≥", r.ofPeer[0]
		if b.peer != "" {
			of = b.peer
			at := slices.Index(r.peers, b.peer)
			if at < 0 {
				absent = append(absent, of)
			} else {
				got = r.ratios(at)
			}
		} else if !r.more {
			sign = "≤"
		}
		asked = append(asked, strings.TrimSpace(fmt.Sprintf("%s %.4g %s", sign, b.bound, r.of(b))))
		if m := median(got); !slices.Contains(absent, of) && (sign == "≥" && m < b.bound || sign == "≤" && m > b.bound) {
			missed = append(missed, of)
		}
	}
	switch {
	case len(missed) > 0 && len(r.bars) > 1:
		verdict = "not met: " + strings.Join(missed, ", ")
	case len(missed) > 0:
		verdict = "not met"
	case len(absent) > 0:
		verdict = "not measured: " + strings.Join(absent, ", ")
	default:
		verdict = "met"
	}
	return strings.Join(asked, ", "), verdict
}

// of says what a bar is about.
func (r result) of(b bar) string {
	if b.peer == "" {
		return r.unit
	}
	return "of " + b.peer
}

// table prints all results in Markdown: our figure, the ratios, and what was to be reached.
func table(results []result) {
	var peers []string
	for _, r := range results {
		for _, p := range r.peers[1:] {
			if !slices.Contains(peers, p) {
				peers = append(peers, p)
			}
		}
	}
	fmt.Print("\nRatios of the peers to the gateway, above 1 is better for the gateway: median (lowest to highest)\n\n| work | gateway |")
	for _, p := range peers {
		fmt.Printf(" of %s |", p)
	}
	fmt.Print(" bar | |\n|---|---|" + strings.Repeat("---|", len(peers)) + "---|---|\n")
	for _, r := range results {
		fmt.Printf("| %s | %s |", r.name, r.text(0))
		for _, p := range peers {
			cell := "-"
			if at := slices.Index(r.peers, p); at > 0 {
				cell = spread(r.ratios(at), 2)
			}
			fmt.Printf(" %s |", cell)
		}
		bars, verdict := r.verdict()
		fmt.Printf(" %s | %s |\n", bars, verdict)
	}
}

// spread is a median with the range, where there is one.
func spread(v []float64, decimals int) string {
	text := func(x float64) string { return fmt.Sprintf("%.*f", decimals, x) }
	if len(v) == 1 {
		return text(v[0])
	}
	return fmt.Sprintf("%s (%s to %s)", text(median(v)), text(slices.Min(v)), text(slices.Max(v)))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s)%2 == 0 {
		return (s[len(s)/2-1] + s[len(s)/2]) / 2
	}
	return s[len(s)/2]
}
