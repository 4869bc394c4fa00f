//go:build !linux || gateway_plain_sockets

package socket

// watch is not to be had here: every connection keeps its goroutine.
type watch struct{ fd int }

type event struct{}

func (*event) id() uint64 { return 0 }

func (*event) ended() bool { return false }

const (
	watchOnce   = 0
	watchAlways = 0
)

func newWatch() *watch { return nil }

func newInnerWatch() *watch { return nil }

func (w *watch) close() {}

func (w *watch) add(int, uint64, uint32) bool { return false }

func (w *watch) remove(int) {}

func (w *watch) run(func()) {}

func (w *watch) poll([]event) []event { return nil }
