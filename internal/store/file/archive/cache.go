package archive

import (
	"container/list"
	"sync"
)

// DefaultCacheBytes bounds what a Cache holds: about 250 blocks.
const DefaultCacheBytes = 32 << 20

// Cache holds decoded blocks and tables of sealed segments, those used last. It may be used by many goroutines.
type Cache struct {
	max       int
	unpackers sync.Pool

	mu    sync.Mutex
	ids   uint64
	used  int
	order *list.List // of *cached, the one used last in front
	items map[cacheKey]*list.Element
}

// cacheKey names a block; the tables are block -1.
type cacheKey struct {
	reader uint64
	block  int
}

type cached struct {
	key   cacheKey
	size  int
	value any
}

// decoded is a block's raw bytes and where its records begin.
type decoded struct {
	raw     []byte
	offsets []int
}

// NewCache makes a cache of at most so many bytes; 0: DefaultCacheBytes.
func NewCache(bytes int) *Cache {
	if bytes == 0 {
		bytes = DefaultCacheBytes
	}
	return &Cache{max: bytes, order: list.New(), items: map[cacheKey]*list.Element{}}
}

func (c *Cache) newID() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids++
	return c.ids
}

// unpacker takes one out of the pool; put it back.
func (c *Cache) unpacker() (*unpacker, error) {
	if u, ok := c.unpackers.Get().(*unpacker); ok {
		return u, nil
	}
	return newUnpacker()
}

func (c *Cache) get(k cacheKey) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	if it, ok := e.Value.(*cached); ok {
		return it.value
	}
	return nil
}

func (c *Cache) put(k cacheKey, size int, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items[k] != nil || size > c.max {
		return
	}
	c.items[k] = c.order.PushFront(&cached{k, size, value})
	c.used += size
	for c.used > c.max {
		c.drop(c.order.Back())
	}
}

func (c *Cache) drop(e *list.Element) {
	if it, ok := c.order.Remove(e).(*cached); ok {
		delete(c.items, it.key)
		c.used -= it.size
	}
}

// forget drops what a reader left.
func (c *Cache) forget(reader uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, e := range c.items {
		if k.reader == reader {
			c.drop(e)
		}
	}
}

func (c *Cache) dictionary(reader uint64) (*dictionary, bool) {
	d, ok := c.get(cacheKey{reader, -1}).(*dictionary)
	return d, ok
}

func (c *Cache) putDictionary(reader uint64, d *dictionary, size int) {
	c.put(cacheKey{reader, -1}, size, d)
}

func (c *Cache) block(reader uint64, i int) (*decoded, bool) {
	b, ok := c.get(cacheKey{reader, i}).(*decoded)
	return b, ok
}

func (c *Cache) putBlock(reader uint64, i int, b *decoded) {
	c.put(cacheKey{reader, i}, len(b.raw)+8*len(b.offsets), b)
}
