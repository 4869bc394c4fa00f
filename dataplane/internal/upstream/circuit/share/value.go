package share

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"gateway.internal/dataplane/internal/upstream/circuit"
)

const (
	// keyPrefix is what the keys begin with, of which each service has one.
	keyPrefix = "gateway:circuit:"
	// channelPrefix is what the name of the channel begins with. The number of the database follows.
	channelPrefix = "gateway:circuits:"
	// maxValue is how many bytes a value has at most, and maxMessage a message.
	maxValue, maxMessage = 64, 128
	// maxOpen is how long an opening lasts at most, which is the longest max_timeout.
	maxOpen = 24 * time.Hour
)

// hashOf returns what stands for a service: it has no characters that mean something to Redis, and always 32 of them.
func hashOf(service string) string {
	sum := sha256.Sum256([]byte(service))
	return hex.EncodeToString(sum[:16])
}

// value is what a key has: "1 NODE GENERATION MILLISECONDS".
func value(of circuit.Opening, open time.Duration) string {
	return nodeValue(of.Node) + strconv.FormatUint(of.Generation, 10) + " " + strconv.FormatInt(open.Milliseconds(), 10)
}

// nodeValue is what the values of a node begin with. The 1 is the version of the form.
func nodeValue(node uint64) string { return "1 " + strconv.FormatUint(node, 16) + " " }

// parseValue reads what value writes, and nothing else.
func parseValue(s string) (of circuit.Opening, open time.Duration, ok bool) {
	if len(s) > maxValue {
		return of, 0, false
	}
	parts := strings.Split(s, " ")
	if len(parts) != 4 {
		return of, 0, false
	}
	node, errNode := strconv.ParseUint(parts[1], 16, 64)
	generation, errGeneration := strconv.ParseUint(parts[2], 10, 64)
	millis, errMillis := strconv.ParseInt(parts[3], 10, 64)
	if errNode != nil || errGeneration != nil || errMillis != nil ||
		generation == 0 || millis < 1 || millis > maxOpen.Milliseconds() {
		return of, 0, false
	}
	of, open = circuit.Opening{Node: node, Generation: generation}, time.Duration(millis)*time.Millisecond
	return of, open, value(of, open) == s
}

// message is what a node is told of a service.
type message struct {
	closed bool
	hash   string // of the service
	of     circuit.Opening
	open   time.Duration // how long from now on
}

const (
	openWord  = "open "
	closeWord = "close "
)

// parseMessage reads "open HASH VALUE" and "close HASH VALUE", and nothing else.
func parseMessage(s string) (m message, ok bool) {
	if len(s) > maxMessage {
		return m, false
	}
	rest, isOpen := strings.CutPrefix(s, openWord)
	if !isOpen {
		if rest, m.closed = strings.CutPrefix(s, closeWord); !m.closed {
			return m, false
		}
	}
	hash, v, _ := strings.Cut(rest, " ")
	if len(hash) != 32 || strings.Trim(hash, "0123456789abcdef") != "" {
		return m, false
	}
	m.hash = hash
	m.of, m.open, ok = parseValue(v)
	return m, ok
}
