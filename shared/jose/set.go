package jose

import (
	"errors"
	"fmt"
	"slices"
)

// MaxKeys is how many keys a set may have.
const MaxKeys = 100

// maxTried is how many keys are tried for a token that does not name its own: each costs as much as the token that
// the right one has signed.
const maxTried = 4

// Set is the keys of an issuer. It is immutable and safe for concurrent use.
type Set struct {
	keys     []*Key
	by       map[string][]*Key // those with a kid
	nameless []*Key            // the others
}

// Problem is a key of a set that is not used.
type Problem struct {
	// Index is its place in the set.
	Index int
	// Err says why.
	Err error
}

// ParseSet reads a JWK Set (RFC 7517 section 5). Keys that can't verify tokens, such as those for encryption, are left
// out, and told. Symmetric tells whether the set may have symmetric keys, which must not come from where public ones
// are published; they can't be together with others.
func ParseSet(text []byte, symmetric bool) (*Set, []Problem, error) {
	m, err := ParseObject(text)
	if err != nil {
		return nil, nil, err
	}
	list, ok := m["keys"].([]any)
	if !ok {
		return nil, nil, errors.New(`has no list "keys"`)
	}
	if len(list) > MaxKeys {
		return nil, nil, fmt.Errorf("has %d keys, more than %d", len(list), MaxKeys)
	}
	s := &Set{}
	var problems []Problem
	var places []int
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, nil, fmt.Errorf("has a key, the one at %d, that is no object", i)
		}
		k, err := parseKey(m)
		if err == nil && k.Symmetric() && !symmetric {
			err = errors.New("is symmetric, which a published key can't be")
		}
		if err != nil {
			problems = append(problems, Problem{i, err})
			continue
		}
		s.keys = append(s.keys, k)
		places = append(places, i)
	}
	problems = append(problems, s.unambiguous(places)...)
	s.index()
	for _, k := range s.keys {
		if k.Symmetric() != s.keys[0].Symmetric() {
			return nil, nil, errors.New("has symmetric keys and public ones together")
		}
	}
	return s, problems, nil
}

// unambiguous takes keys out that have the same kid as another one and may verify the same tokens: which one is meant
// can't be told. The same key twice is one.
func (s *Set) unambiguous(places []int) (problems []Problem) {
	var kept []*Key
	for i, k := range s.keys {
		alone := true
		for j, other := range s.keys {
			if i == j || !k.HasID || !other.HasID || k.ID != other.ID || !k.overlaps(other) {
				continue
			}
			if k.print == other.print {
				alone = alone && i < j
				continue
			}
			alone = false
		}
		if alone {
			kept = append(kept, k)
		} else {
			problems = append(problems, Problem{places[i], errors.New("has the kid of another key")})
		}
	}
	s.keys = kept
	return problems
}

// overlaps reports whether there is an alg that both keys fit.
func (k *Key) overlaps(other *Key) bool {
	for name := range algorithms {
		if k.fits(name) && other.fits(name) {
			return true
		}
	}
	return false
}

// Len returns how many keys there are.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// Keys returns them. The slice is not to be changed.
func (s *Set) Keys() []*Key {
	if s == nil {
		return nil
	}
	return s.keys
}

// Succeed takes the keys over from a set before that are still there, so that what they have verified goes on to count,
// and makes the others Gone. It is called once, before the set is used.
func (s *Set) Succeed(before *Set) {
	if before == nil {
		return
	}
	for _, old := range before.keys {
		stays := false
		for i, k := range s.keys {
			if k.print == old.print {
				s.keys[i], stays = old, true
			}
		}
		if !stays {
			old.gone.Store(true)
		}
	}
	s.index()
}

// index finds keys by their kid.
func (s *Set) index() {
	s.by, s.nameless = map[string][]*Key{}, nil
	for _, k := range s.keys {
		if k.HasID {
			s.by[k.ID] = append(s.by[k.ID], k)
		} else {
			s.nameless = append(s.nameless, k)
		}
	}
}

// candidates returns the keys that a token names: those with its kid, else those without any.
func (s *Set) candidates(t *Token) []*Key {
	switch {
	case s == nil || len(t.KeyID) > maxKeyIDBytes:
		return nil
	case !t.HasKeyID:
		return s.keys
	}
	if named := s.by[t.KeyID]; len(named) > 0 {
		return named
	}
	return s.nameless
}

// Verify returns the key that has signed a token. The refusal is UnknownKey where none of the keys may be it, so that a
// newer set may know one.
func (s *Set) Verify(t *Token) (*Key, *Refusal) {
	tried := 0
	for _, k := range s.candidates(t) {
		if !k.fits(t.Algorithm) {
			continue
		}
		if tried++; tried > maxTried {
			return nil, errManyKeys
		}
		if k.verify(t) {
			return k, nil
		}
	}
	if tried == 0 {
		return nil, errUnknownKey
	}
	return nil, errSignature
}

// May reports whether a key of the set may have signed a token, without trying it.
func (s *Set) May(t *Token) bool {
	return slices.ContainsFunc(s.candidates(t), func(k *Key) bool { return k.fits(t.Algorithm) })
}

// Fits reports whether a key of the set may verify tokens with one of the algorithms; none: of the default ones.
func (s *Set) Fits(algorithms []string) bool {
	if len(algorithms) == 0 {
		algorithms = defaultAlgorithms
	}
	return slices.ContainsFunc(s.Keys(), func(k *Key) bool { return slices.ContainsFunc(algorithms, k.fits) })
}
