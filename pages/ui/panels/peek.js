// A thumbnail at the pointer, for every point of a Plotly chart.
export default function ({ data, parentElement }) {
  const box = document.createElement('div');
  box.className = 'fovea-peek';
  Object.assign(box.style, { position: 'fixed', zIndex: 1000000, width: data.size + 'px', height: data.size + 'px',
    pointerEvents: 'none', display: 'none', borderRadius: '8px', boxShadow: '0 2px 14px rgba(0, 0, 0, .35)',
    backgroundRepeat: 'no-repeat', backgroundImage: `url("${data.sheet}")`,
    backgroundSize: `${data.columns * 100}% ${data.rows * 100}%` });
  document.body.appendChild(box);
  let plot = null, waiting = 0;
  const place = (part, all) => all > 1 ? 100 * part / (all - 1) : 0;
  const show = (event) => {
    const tile = event.points[0].customdata && event.points[0].customdata[1];
    if (!(tile >= 0)) return;
    box.style.backgroundPosition =
      `${place(tile % data.columns, data.columns)}% ${place(Math.floor(tile / data.columns), data.rows)}%`;
    const { clientX: x, clientY: y } = event.event;
    const left = x - 18 - data.size;
    box.style.left = (left < 4 ? x + 18 : left) + 'px';
    box.style.top = Math.max(4, Math.min(y - data.size - 14, window.innerHeight - data.size - 4)) + 'px';
    box.style.display = 'block';
  };
  const hide = () => { box.style.display = 'none'; };
  const attach = () => {
    plot = document.querySelector(`.st-key-${CSS.escape(data.place)} .js-plotly-plot`);
    if (!plot || !plot.on) { waiting = setTimeout(attach, 200); return; }
    plot.on('plotly_hover', show);
    plot.on('plotly_unhover', hide);
  };
  attach();
  return () => {
    clearTimeout(waiting);
    if (plot && plot.removeListener) {
      plot.removeListener('plotly_hover', show);
      plot.removeListener('plotly_unhover', hide);
    }
    box.remove();
  };
}
