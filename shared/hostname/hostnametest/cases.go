// Package hostnametest has the hosts that everything which looks hosts up is tried with: routes, what is shown over TLS
// and asked of clients, and ACME.
package hostnametest

// Case is a host of the configuration with the host of a request.
type Case struct {
	// Pattern stands in the configuration.
	Pattern string
	// Host is what a client says, as it stands in Host or :authority.
	Host string
	// Matches tells whether the pattern stands for it.
	Matches bool
}

// Cases returns them.
func Cases() []Case {
	return []Case{
		{"shop.test", "shop.test", true},
		{"shop.test", "SHOP.Test", true},
		{"Shop.TEST.", "shop.test", true},
		{"shop.test", "shop.test.", true},
		{"shop.test", "shop.test:8443", true},
		{"shop.test", "shop.test.:8443", true},
		{"shop.test", "shop.test..", false},
		{"shop.test", ".shop.test", false},
		{"shop.test", "a.shop.test", false},
		{"shop.test", "shop.test.evil.test", false},
		{"shop.test", "xshop.test", false},
		{"shop.test", "shop%2etest", false},
		{"shop.test", "", false},
		{"*.shop.test", "a.shop.test", true},
		{"*.shop.test", "A.Shop.Test.", true},
		{"*.Shop.Test.", "a.shop.test:1", true},
		{"*.shop.test", "a.b.shop.test", true},
		{"*.shop.test", "a.b.c.shop.test:443", true},
		{"*.shop.test", "_a.shop.test", true},
		{"*.shop.test", "xn--mnchen-3ya.shop.test", true},
		{"*.shop.test", "shop.test", false},
		{"*.shop.test", ".shop.test", false},
		{"*.shop.test", "xshop.test", false},
		{"*.shop.test", "a.shop.test.evil.test", false},
		{"*.shop.test", "a.shop.test..", false},
		{"*.shop.test", "", false},
		{"xn--mnchen-3ya.test", "XN--MNCHEN-3YA.test", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1", "[::ffff:127.0.0.1]:80", true},
		{"127.0.0.1", "127.1", false},
		{"127.0.0.1", "0x7f.0.0.1", false},
		{"::1", "[::1]", true},
		{"[::1]", "[0:0:0:0:0:0:0:1]:8443", true},
		{"2001:DB8::1", "[2001:db8:0::1]", true},
		{"::1", "[::2]", false},
	}
}
