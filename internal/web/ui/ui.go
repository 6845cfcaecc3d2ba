// Package ui holds what the console and the portal share: layout, embedded assets, exact formatting, SVG charts.
package ui
