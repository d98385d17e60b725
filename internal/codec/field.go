package codec

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// field is one JSON member of a struct.
type field struct {
	name   string // in JSON
	path   string // in Go, as "Base.ID"
	index  []int
	typ    reflect.Type
	quoted bool // the option string

	omitEmpty, omitZero bool
}

// omits reports whether v, the field's value, is left out.
func (f *field) omits(v reflect.Value) bool {
	if f.omitZero && v.IsZero() {
		return true
	}
	if !f.omitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// fieldsOf lists what encoding/json writes of the struct type t, in its order.
// encoding/json drops fields whose names collide without a word; here that is a fault.
func fieldsOf(t reflect.Type) ([]field, error) {
	c := fieldCollector{names: map[string]string{}, within: map[reflect.Type]bool{}}
	if err := c.collect(t, nil, ""); err != nil {
		return nil, err
	}
	return c.fields, nil
}

type fieldCollector struct {
	fields []field
	names  map[string]string // JSON name → Go path of who has it
	within map[reflect.Type]bool
}

func (c *fieldCollector) collect(t reflect.Type, index []int, path string) error {
	if c.within[t] {
		return fmt.Errorf("%s embeds itself; make %s a named field", t, strings.TrimSuffix(path, "."))
	}
	c.within[t] = true
	defer delete(c.within, t)

	exported, hidden := 0, 0
	for sf := range t.Fields() {
		tag := sf.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if !validName(name) {
			name = ""
		}
		switch {
		case tag == "-":
			exported++ // left out by the author's own word
			continue
		case sf.Anonymous && embeds(sf.Type):
		case !sf.IsExported():
			if sf.Name != "_" && sf.Type.Size() > 0 {
				hidden++
			}
			continue
		}
		exported++

		index := append(index[:len(index):len(index)], sf.Index...)
		if sf.Anonymous && name == "" && embeds(sf.Type) {
			if err := c.embed(sf, index, path); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			return fmt.Errorf("the embedded field %s is unexported and has the JSON name %q; export it, or drop the name", path+sf.Name, name)
		}
		f := field{name: name, path: path + sf.Name, index: index, typ: sf.Type}
		if name == "" {
			f.name = sf.Name
		}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				f.omitEmpty = true
			case "omitzero":
				f.omitZero = true
			case "string":
				f.quoted = quotable(sf.Type)
			}
		}
		if other, ok := c.names[f.name]; ok {
			return fmt.Errorf("the fields %s and %s are both named %q in JSON, so one would be dropped; give one another name, or the tag `json:\"-\"`", other, f.path, f.name)
		}
		c.names[f.name] = f.path
		c.fields = append(c.fields, f)
	}
	if exported == 0 && hidden > 0 {
		return fmt.Errorf("%s has no exported field, so nothing of it would be stored; export what matters, or give it MarshalJSON and UnmarshalJSON", t)
	}
	return nil
}

func (c *fieldCollector) embed(sf reflect.StructField, index []int, path string) error {
	t := sf.Type
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
		if !sf.IsExported() {
			return fmt.Errorf("the embedded *%s is unexported, so it can't be set when it is read; embed it without the pointer", t)
		}
	}
	before := len(c.fields)
	if err := c.collect(t, index, path+sf.Name+"."); err != nil {
		return err
	}
	if pointer {
		for _, f := range c.fields[before:] {
			if !f.omitEmpty && !f.omitZero {
				return nil
			}
		}
		return fmt.Errorf("the embedded *%s has no field that is always written, so nil and empty would be the same; embed it without the pointer, or name it", t)
	}
	return nil
}

// embeds reports whether an anonymous field of type t gives its members to the
// struct around it, and is not a member itself.
func embeds(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// quotable reports whether the option string has an effect on type t.
func quotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer && t.Name() == "" {
		t = t.Elem()
	}
	switch kindOf(t.Kind()) {
	case boolKind, intKind, uintKind, floatKind, stringKind:
		return true
	default:
		return false
	}
}

// validName reports whether encoding/json takes s as a name from a tag.
func validName(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return s != ""
}
