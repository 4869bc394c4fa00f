package testserver

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports are below those that Linux gives to connections going out, one of which could take a port before a server
// does.
const (
	firstPort = 15_000
	lastPort  = 32_000
)

// given are the ports that this process was given: none is given twice, since nobody may listen on the first one yet.
var given sync.Map

// FreePort returns a port of the loopback that nobody listens on.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = ln.Close()
		return port
	}
	t.Fatal("no port is free")
	return 0
}
