//go:build !linux || gateway_plain_sockets

package socket

// watch is not to be had here: every connection keeps its goroutine.
type watch struct{}

func newWatch() *watch { return nil }

func (w *watch) close() {}

func (w *watch) add(int, uint64) bool { return false }

func (w *watch) remove(int) {}

func (w *watch) run(func(uint64)) {}
