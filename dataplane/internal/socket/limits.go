//go:build !race

package socket

// limits does nothing in this build.
type limits struct{}

func (limits) setRead()   {}
func (limits) setAlways() {}
func (limits) setWrite()  {}
func (limits) dropRead()  {}
func (limits) read()      {}
func (limits) reading()   {}
func (limits) write()     {}
