//go:build !linux || gateway_plain_sockets

package socket

import "time"

func (c *Conn) initRaw() {}

func (c *Conn) initTransport() {}

func (b *Transport) readDirect([]byte) (int, error) { panic("socket: no raw connection") }

func (b *Transport) offerDirect([]byte) (int, error) { panic("socket: no raw connection") }

func (b *Transport) writeDirect(p []byte) (int, error) { return b.Conn.Write(p) }

func (c *Conn) eachTLS() error { panic("socket: no raw connection") }

func (c *Conn) fillRaw() error { panic("socket: no raw connection") }

func (c *Conn) eachRaw() error { panic("socket: no raw connection") }

func (c *Conn) sendAndFillRaw([]byte) (int, error) { panic("socket: no raw connection") }

func (c *Conn) writeRaw(_, _ []byte) error { panic("socket: no raw connection") }

func (c *Conn) leavePoller() bool { return false }

func (c *Conn) rejoinPoller() {}

func (c *Conn) receive(int) bool { panic("socket: no raw connection") }

func (c *Conn) receiveTLS() (bool, error) { panic("socket: no raw connection") }

func (c *Conn) readOutcome() error { panic("socket: no raw connection") }

func (c *Conn) offerRaw([]byte) (int, error) { panic("socket: no raw connection") }

// Quiet reports whether nothing is buffered. Without raw access to the socket more can't be known.
func (c *Conn) Quiet() bool { return c.Drained() }

// PeerGone reports that nothing is known. Without raw access to the socket nothing can be.
func (Probe) PeerGone(bool) bool { return false }

// CanSplice reports that bytes have to pass through the process.
func (c *Conn) CanSplice(*Conn) bool { return false }

// Splice is only called where CanSplice allows it.
func (c *Conn) Splice(*Conn, int64, func(time.Time)) (int64, bool, error) {
	panic("socket: no raw connection")
}
