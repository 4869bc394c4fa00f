package follow

import "github.com/google/uuid"

// newID makes ids for resources of files, and for nodes.
func newID() string { return uuid.NewString() }
