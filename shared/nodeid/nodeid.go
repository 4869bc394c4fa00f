// Package nodeid says what the id of a node may be: both planes look at it, since a control plane can't rely on what
// it is told.
package nodeid

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxBytes is the longest id.
const MaxBytes = 128

// Check says what is wrong with an id.
func Check(id string) error {
	unfit := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }
	if id == "" || len(id) > MaxBytes || !utf8.ValidString(id) || strings.ContainsFunc(id, unfit) {
		if len(id) > MaxBytes {
			id = id[:MaxBytes] + "..."
		}
		return fmt.Errorf("%q: has to be 1 to %d bytes without spaces and control characters", id, MaxBytes)
	}
	return nil
}
