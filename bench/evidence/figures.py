"""Line charts with error bars as SVG, written without a library: equal values give equal bytes."""

COLOURS = ["#117733", "#000000", "#3366cc", "#cc3333", "#aa7700"]


class Chart:
    """Panels side by side, each with lines of (x, value, low, high)."""

    def __init__(self, title, panels, low, high, width=300, height=230):
        self.out, self.low, self.high, self.width, self.height = [], low, high, width, height
        total = 50 + len(panels) * (width + 20)
        self.head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height + 95}" viewBox="0 0 {total} {height + 95}" '
                     f'font-family="sans-serif" font-size="12">\n<title>{title}</title>\n<rect width="100%" height="100%" fill="white"/>')
        for at, panel in enumerate(panels):
            self.panel(50 + at * (width + 20), *panel)

    def y(self, value):
        return 30 + (self.high - value) / (self.high - self.low) * self.height

    def panel(self, left, title, marks, lines):
        """Adds a panel. `marks` are (x, text) below the axis, `lines` are (name, points); x >= 0."""
        last = max([x for x, _ in marks] + [p[0] for _, points in lines for p in points])
        place = lambda x: left + 8 + x / last * (self.width - 16)
        self.add(f'<text x="{left}" y="20" font-weight="bold">{title}</text>')
        for tenth in range(round((self.high - self.low) * 10) + 1):
            value = self.low + tenth / 10
            self.add(f'<line x1="{left}" x2="{left + self.width}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}" stroke="#ddd"/>')
            if left == 50:
                self.add(f'<text x="{left - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
        for x, text in marks:
            self.add(f'<text x="{place(x):.1f}" y="{self.height + 48}" text-anchor="middle">{text}</text>')
        for number, (name, points) in enumerate(lines):
            colour = COLOURS[number % len(COLOURS)]
            shift = (number - (len(lines) - 1) / 2) * 2.5
            at = [(place(x) + shift, *rest) for x, *rest in points]
            for x, _, low, high in at:
                if low is not None:
                    low, high = max(low, self.low), min(high, self.high)
                    self.add(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(low):.1f}" y2="{self.y(high):.1f}" stroke="{colour}" stroke-opacity="0.45"/>')
            polyline = " ".join(f"{x:.1f},{self.y(min(max(v, self.low), self.high)):.1f}" for x, v, *_ in at)
            self.add(f'<polyline points="{polyline}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
            row, column = divmod(number, 2)
            self.add(f'<text x="{left + column * (self.width / 2):.0f}" y="{self.height + 66 + 14 * row}" fill="{colour}">{name}</text>')

    def add(self, line):
        self.out.append(line)

    def text(self):
        return "\n".join([self.head, *self.out, "</svg>"]) + "\n"
