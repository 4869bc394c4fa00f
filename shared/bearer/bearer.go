// Package bearer says what the bearer tokens may be that administrators and nodes show (RFC 6750): both planes look at
// them, since a node is to refuse what no control plane takes.
package bearer

import "fmt"

// MinBytes is the length of the shortest token.
const MinBytes = 16

// Check says what is wrong with a token. Its text does not have the token.
func Check(token string) error {
	if len(token) < MinBytes {
		return fmt.Errorf("has %d characters; at least %d are required", len(token), MinBytes)
	}
	return nil
}
