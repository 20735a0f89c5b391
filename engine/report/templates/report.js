'use strict';
(() => {
  const data = JSON.parse(document.getElementById('figures').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const theme = () => data.templates[dark.matches ? 'dark' : 'light'];
  const drawn = [];
  const shape = (layout, width) => {
    const x = layout.xaxis && layout.xaxis.range, y = layout.yaxis && layout.yaxis.range;
    if (!x || !y || !layout.yaxis.scaleanchor) return layout.height;
    const bar = 90, high = Math.abs(y[1] - y[0]) / Math.abs(x[1] - x[0]) * width + bar;
    return Math.max(160, Math.min(high, 0.85 * window.innerHeight, 720));
  };
  const show_tiles = (box, { sheet, columns, rows }) => {
    const tile = document.createElement('div');
    tile.className = 'peek';
    tile.style.backgroundImage = 'url("' + sheet + '")';
    tile.style.backgroundSize = columns * 100 + '% ' + rows * 100 + '%';
    document.body.appendChild(tile);
    const part = (place, all) => all > 1 ? 100 * place / (all - 1) + '%' : '0%';
    box.on('plotly_hover', (event) => {
      const index = event.points[0].customdata && event.points[0].customdata[1];
      if (!(index >= 0)) return;
      tile.style.backgroundPosition = part(index % columns, columns) + ' ' + part(Math.floor(index / columns), rows);
      const { clientX: x, clientY: y } = event.event;
      tile.style.left = (x < 154 ? x + 18 : x - 150) + 'px';
      tile.style.top = Math.max(4, Math.min(y - 146, window.innerHeight - 136)) + 'px';
      tile.style.display = 'block';
    });
    box.on('plotly_unhover', () => { tile.style.display = 'none'; });
  };
  for (const box of document.querySelectorAll('[data-figure]')) {
    const { figure, cells, peek } = data.figures[Number(box.dataset.figure)];
    const height = figure.layout.height;
    const layout = Object.assign({}, figure.layout, { template: theme(), autosize: true });
    layout.height = shape(figure.layout, box.clientWidth);
    Plotly.newPlot(box, figure.data, layout, data.config);
    drawn.push([box, figure.layout]);
    const slider = document.querySelector('[data-opacity="' + box.dataset.figure + '"]');
    if (slider) slider.addEventListener('input', () => Plotly.restyle(box, { opacity: Number(slider.value) }, [0]));
    const shown = document.querySelector('[data-covered="' + box.dataset.figure + '"]');
    if (peek) show_tiles(box, peek);
    if (cells && shown) box.on('plotly_click', (event) => {
      const place = event.points.find((point) => Array.isArray(point.customdata) && point.customdata.length > 1);
      if (place) show(shown, cells, place.customdata[0], place.customdata[1]);
    });
  }
  const show = (shown, cells, row, column) => {
    const [photo, cover] = shown.querySelectorAll('img');
    if (!photo.getAttribute('src')) { photo.src = cells.photo; cover.src = cells.cover; }
    const [width, height] = cells.size;
    const clamp = (value, end) => Math.min(Math.max(value, 0), end);
    const top = clamp(cells.ys[row], height), left = clamp(cells.xs[column], width);
    const bottom = clamp(cells.ys[row] + cells.window[0], height);
    const right = clamp(cells.xs[column] + cells.window[1], width);
    const percent = (part, whole) => 100 * part / whole + '%';
    cover.style.clipPath = 'inset(' + [percent(top, height), percent(width - right, width),
      percent(height - bottom, height), percent(left, width)].join(' ') + ')';
    const text = shown.querySelector('div:last-child');
    text.replaceChildren();
    const line = document.createElement('p');
    line.textContent = 'Window at row ' + row + ', column ' + column + ': ' + cells.label + ' ' +
      cells.values[row][column];
    text.appendChild(line);
    const lines = cells.lines[row + ',' + column] || [];
    if (lines.length) {
      const table = document.createElement('table');
      for (const values of lines) {
        const tr = table.insertRow();
        for (const value of values) tr.insertCell().textContent = value;
      }
      text.appendChild(table);
    }
    shown.hidden = false;
  };
  dark.addEventListener('change', () => {
    for (const [box] of drawn) Plotly.relayout(box, { template: theme() });
  });
  let waiting = 0;
  window.addEventListener('resize', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [box, layout] of drawn) Plotly.relayout(box, { height: shape(layout, box.clientWidth) });
    }, 150);
  });
})();
