// The frame around the views: navigation, machine, theme.
(function (scenax) {
  'use strict';
  const { data, escape } = scenax;

  const TITLES = { table: 'Table', scatter: 'Scatter', compare: 'Compare', library: 'Library' };
  const root = document.documentElement;
  const main = document.getElementById('main');
  let shown = '';

  function frame({ view, params }) {
    const { machine, family, q, task } = params;
    const links = Object.entries(TITLES).map(([key, title]) => {
      const kept = key === 'library' ? { machine } : { machine, family, q, task };
      const current = key === view || (key === 'table' && view === 'model');
      return `<a href="${scenax.address(key, kept)}"${current ? ' aria-current="page"' : ''}>${title}</a>`;
    });
    if (data.asv) links.push('<a href="asv/index.html">asv\u2019s own pages</a>');
    document.getElementById('views').innerHTML = links.join('');
    document.getElementById('machine').value = scenax.machine().name;
  }

  /** Puts into the filters what the address says, after "back" for example. */
  function fields({ params }) {
    for (const name of ['q', 'family', 'task']) {
      const field = main.querySelector(`.filters [name=${name}]`);
      if (field && field !== document.activeElement) field.value = params[name] || '';
    }
  }

  function failed(error) {
    main.innerHTML = `<h1>Something is missing</h1><p class="nothing">${escape(error.message)}
      Build the dashboard again, and copy its whole folder.</p>`;
  }

  /** Shows what the address says. Within a view only the rows are drawn anew, and focus stays. */
  async function show() {
    const place = scenax.read();
    const view = scenax.views[place.view] || scenax.views.table;
    const key = `${place.view}/${place.name}?${place.params.machine || ''}`;
    frame(place);
    const again = key === shown && view.fill;
    const moved = key !== shown && shown;
    shown = key;
    if (again) fields(place);
    try {
      await (again ? view.fill : view.draw)(main);
    } catch (error) {
      failed(error);
    }
    document.title = `${place.name || TITLES[place.view] || TITLES.table} · Scenax`;
    if (moved && document.activeElement === document.body) {
      window.scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
  }

  const prefersDark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : prefersDark.matches;

  function drawTheme() {
    const button = document.getElementById('theme');
    button.textContent = isDark() ? '☀' : '☾';
    button.title = `${isDark() ? 'Light' : 'Dark'} theme`;
    button.setAttribute('aria-label', button.title);
  }

  function toggleTheme() {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    // A page from a folder may not be allowed to remember.
    try { localStorage.setItem('scenax-theme', root.dataset.theme); } catch { /* Then it does not. */ }
    drawTheme();
  }

  function start() {
    const select = document.getElementById('machine');
    select.innerHTML = data.machines.map(({ name }) =>
      `<option value="${escape(name)}">${escape(name)}</option>`).join('');
    select.addEventListener('change', () => scenax.change({ machine: select.value, base: '', head: '' }));
    document.getElementById('theme').addEventListener('click', toggleTheme);
    document.getElementById('skip').addEventListener('click', (event) => {
      event.preventDefault(); // The address is that of the view.
      main.focus();
    });
    prefersDark.addEventListener('change', drawTheme);
    drawTheme();
    let width = window.innerWidth; // A phone's bars change the height all the time.
    window.addEventListener('resize', () => {
      if (window.innerWidth === width) return;
      width = window.innerWidth;
      scenax.views[scenax.read().view]?.resize?.(main);
    });
    window.addEventListener('popstate', show);
    document.getElementById('footer').textContent = `Architectures: ${data.models.length}. ` +
      `Commits: ${data.machines.map(({ name, commits }) => `${commits.length} on ${name}`).join(', ')}.`;
    scenax.show = show;
    // After the frame in which the page is drawn: what a reader waits for.
    show().then(() => requestAnimationFrame(() => setTimeout(() => {
      root.dataset.rendered = Math.round(performance.now());
    })));
  }

  start();
})(window.scenax);
