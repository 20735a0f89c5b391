// Cards with tiles of a sheet: the sheet is fetched once, and each tile is a window onto it.
export default function ({ data, parentElement, setTriggerValue }) {
  let root = parentElement.querySelector('.cards');
  if (!root) { root = document.createElement('div'); root.className = 'cards'; parentElement.appendChild(root); }
  root.style.setProperty('--card', data.card + 'px');
  root.replaceChildren();
  const { columns, rows } = data;
  const tile = (index, title) => {
    const box = document.createElement('div');
    box.className = 'tile';
    if (index < 0) { box.classList.add('empty'); return box; }
    const x = index % columns, y = Math.floor(index / columns);
    box.style.backgroundImage = `url("${data.sheet}")`;
    box.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    box.style.backgroundPosition =
      `${columns > 1 ? (100 * x) / (columns - 1) : 0}% ${rows > 1 ? (100 * y) / (rows - 1) : 0}%`;
    if (title) box.title = title;
    return box;
  };
  for (const card of data.cards) {
    const box = document.createElement(data.opens ? 'button' : 'div');
    box.className = data.opens ? 'card' : 'card still';
    const tiles = document.createElement('div');
    tiles.className = 'tiles';
    tiles.style.setProperty('--across', Math.min(3, Math.ceil(Math.sqrt(card.tiles.length))));
    card.tiles.forEach((index, place) => tiles.appendChild(tile(index, card.titles[place])));
    box.appendChild(tiles);
    for (const [kind, text] of [['name', card.name], ['note', card.note]]) {
      if (!text) continue;
      const line = document.createElement('span');
      line.className = kind;
      line.textContent = text;
      box.appendChild(line);
    }
    if (data.opens) {
      box.setAttribute('aria-label', 'Open ' + (card.name || card.note));
      box.onclick = () => setTriggerValue('opened', card.id);
    }
    root.appendChild(box);
  }
}
