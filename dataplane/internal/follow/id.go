package follow

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxIDBytes is the longest node id that control planes take.
const maxIDBytes = 128

// newID makes ids for resources of files, and for nodes.
func newID() string { return uuid.NewString() }

// checkID checks the id of a node.
func checkID(id string) error {
	unfit := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }
	if id == "" || len(id) > maxIDBytes || !utf8.ValidString(id) || strings.ContainsFunc(id, unfit) {
		return fmt.Errorf("%q: has to be 1 to %d bytes without spaces and control characters", id, maxIDBytes)
	}
	return nil
}
