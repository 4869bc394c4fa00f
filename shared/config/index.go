package config

import "gateway.internal/shared/hamt"

// byID and byName are the keys of the indexes of a kind.
type (
	byID   struct{}
	byName struct{}
)

// Of implements hamt.Keyer.
func (byID) Of(e *Entry) string { return e.ID() }

// Of implements hamt.Keyer.
func (byName) Of(e *Entry) string { return e.Name() }

// byPlace is the key of resources of all kinds together.
type byPlace struct{}

// Of implements hamt.Keyer.
func (byPlace) Of(e *Entry) string { return string(rune(e.Kind)) + e.ID() }

type (
	ids    = hamt.Map[*Entry, byID]
	names  = hamt.Map[*Entry, byName]
	places = hamt.Map[*Entry, byPlace]
)
