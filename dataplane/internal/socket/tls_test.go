package socket

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// recordWriter stands for TLS: what it is given goes transport as it is.
type recordWriter struct{ *Transport }

func (w recordWriter) Write(p []byte) (int, error) { return w.Transport.Write(p) }

// TLS writes from the reading goroutine too, when a peer asks for new keys. Nothing of that may get lost, or into a
// buffer that has been given back, while a large write is held together.
func TestWritesOfBothGoroutines(t *testing.T) {
	near, far := net.Pipe()
	b := NewTransport(near)
	c := &Conn{nc: recordWriter{b}, fd: -1, transport: b}
	const rounds, large, small = 300, 20 << 10, 10
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, far)
		got <- n
	}()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range rounds {
			c.WriteWithin(time.Now(), time.Minute)
			if err := c.Write(make([]byte, large), make([]byte, large)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Go(func() {
		for range rounds {
			if _, err := b.Write(make([]byte, small)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Wait()
	_ = near.Close()
	if n := <-got; n != rounds*(2*large+small) {
		t.Errorf("%d bytes arrived of %d", n, rounds*(2*large+small))
	}
	_ = far.Close()
}
