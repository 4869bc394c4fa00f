//go:build !race

package inuse

// Counting tells whether counters count.
const Counting = false
