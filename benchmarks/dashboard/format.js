// How numbers, changes and commits are written, and what becomes of a text in HTML.
(function (scenax) {
  'use strict';

  const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  const MINUS = '\u2212';
  const PREFIXES = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
  const SMALL = [[1, ''], [1e-3, 'm'], [1e-6, 'µ']];

  const escape = (text) => String(text).replace(/[&<>"']/g, (letter) => ENTITIES[letter]);

  /** Three digits that count, and no more behind the point than help. */
  function plain(value) {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, '\u202f');
    const digits = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4;
    return value.toFixed(digits);
  }

  function counted(value) {
    const [size, prefix] = PREFIXES.find(([least]) => Math.abs(value) >= least) || [1, ''];
    const number = value / size;
    return `${prefix && Math.abs(number) >= 100 ? number.toFixed(0) : plain(number)}${
      prefix && '\u00a0' + prefix}`;
  }

  function number(figure, value) {
    if (value == null) return '–';
    if (figure.points) return value.toFixed(1);
    return figure.counted ? counted(value) : plain(value);
  }

  /** A number of an axis: 1 G, and not 1.00 G. */
  const tick = (figure, value) => number(figure, value).replace(/(\.\d*?)0+(?=\D|$)/, '$1')
    .replace(/\.(?=\D|$)/, '');

  /** A name in HTML that may break after its underscores. */
  const breakable = (name) => escape(name).replace(/_/g, '_<wbr>');

  const withUnit = (figure, value) => value == null ? 'no figure' :
    `${number(figure, value)}${figure.unit ? '\u00a0' + figure.unit : ''}`;

  /** A benchmark of the library in the unit that asv names. */
  function measured(value, unit) {
    if (value == null) return '–';
    if (unit === 'seconds') {
      const [size, prefix] = SMALL.find(([least]) => Math.abs(value) >= least) || [1e-6, 'µ'];
      return `${plain(value / size)}\u00a0${prefix}s`;
    }
    if (unit === 'bytes') return `${counted(value)}B`;
    return unit ? `${plain(value)}\u00a0${unit}` : plain(value);
  }

  /** A change as {size, text, verdict}; verdict is better, worse or empty, null without a change. */
  function difference(figure, before, after) {
    if (before == null || after == null || before === after) return null;
    const size = figure.points ? after - before :
      before ? 100 * (after / before - 1) : Math.sign(after) * Infinity;
    if (figure.noise && Math.abs(size) < 0.05) return null; // It would read as 0.0.
    const beyond = Math.abs(size) > figure.noise;
    const verdict = !beyond ? '' : (size > 0) === Boolean(figure.higher) ? 'better' : 'worse';
    const digits = Math.abs(size) >= 10 ? 0 : figure.noise || Math.abs(size) >= 0.1 ? 1 : 3;
    const amount = Number.isFinite(size) ? Math.abs(size).toFixed(digits) : '∞';
    const unit = figure.points ? '\u00a0pt' : '\u202f%';
    return { size, verdict, text: `${size > 0 ? '+' : MINUS}${amount}${unit}` };
  }

  /** A change as HTML. An arrow, and words for who does not see it, say what a colour says. */
  function changeHtml(change) {
    if (!change) return '';
    const arrow = !change.verdict ? '' :
      `<span aria-hidden="true">${change.size > 0 ? '▲' : '▼'}</span>`;
    const word = change.verdict && `<span class="unseen"> ${change.verdict}</span>`;
    return `<span class="change ${change.verdict}">${arrow}${change.text}${word}</span>`;
  }

  const library = (unit) => ({ noise: scenax.data.libraryNoise, unit, points: false, higher: false });
  const date = (commit) => new Date(commit[1]).toISOString().slice(0, 10);
  const short = (commit) => commit[0].slice(0, 8);

  function commitHtml(commit) {
    const hash = `<code>${escape(short(commit))}</code>`;
    const url = scenax.data.commitUrl;
    const linked = url ? `<a href="${escape(url + commit[0])}">${hash}</a>` : hash;
    const tags = commit[3].map((tag) => ` <span class="tag">${escape(tag)}</span>`).join('');
    return `${linked}${tags} ${date(commit)}${commit[2] ? ' · ' + escape(commit[2]) : ''}`;
  }

  const pairs = (table) => Object.entries(table || {}).map(([key, value]) => `${key} ${value}`);

  Object.assign(scenax, {
    escape, breakable, number, tick, withUnit, measured, difference, changeHtml, library, date, short, commitHtml,
    pairs, plain,
  });
})(window.scenax);
